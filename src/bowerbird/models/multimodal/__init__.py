"""Models that know items by what they say, show and sound like."""
