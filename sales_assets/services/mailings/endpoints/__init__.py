"""HTTP endpoints of docs/data-contracts/mailings.md, and separate paths for what goes beyond it."""

PREFIX = "/api/v1"
