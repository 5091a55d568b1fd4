"""What concerns the Hugging Face Hub: the card of a model, and features of a data set in one call."""
