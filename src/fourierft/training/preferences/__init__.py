"""Learning from what people prefer, by TRL's trainers of DPO and KTO."""
