"""The providers behind the data plane, and both ends of the issuer's socket."""
