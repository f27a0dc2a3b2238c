"""Control: instruction supply, queues, tokens, the DMA and load units, counters and registers."""
