"""What a GPU could do at best, worked out by bytes and flops: no device is needed, and nothing is measured."""
