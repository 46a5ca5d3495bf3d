"""What tests in several rooms use."""
