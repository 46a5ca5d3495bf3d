"""``pillion run``: an application with its sidecar, without Kubernetes."""
