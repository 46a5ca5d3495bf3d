"""Where a destination is: endpoints, profiles, and the index that knows them."""
