"""Who may do what, and which way a request goes: models, matching, decisions."""
