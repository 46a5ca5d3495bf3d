"""HTTP on sockets: requests from one side carried to the other, responses back."""
