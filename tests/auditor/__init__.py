"""An auditor of Fama federations, written from ledger/PROTOCOL.md alone."""
