"""Rules with what they ask of people as text that moves between installations, and many changed at once."""
