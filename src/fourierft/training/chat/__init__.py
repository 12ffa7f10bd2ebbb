"""Instruction tuning: conversations and instructions in a model's chat template, through TRL's SFTTrainer."""
