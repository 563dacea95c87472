"""Messages to domain values and back; requests are checked before they come here."""
