"""HTTP endpoints of docs/data-contracts/mailings.md, and separate paths for extensions."""

PREFIX = "/api/v1"
