"""What several test modules share: targets, models, rights."""
