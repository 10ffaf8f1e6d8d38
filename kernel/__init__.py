"""The ground every package stands on: settings, database, events, audit, files, languages. No domain word in here."""
