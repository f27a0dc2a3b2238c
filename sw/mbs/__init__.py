"""Mini-batch serialisation (MLSys 2019): layers in groups, a mini-batch in sub-batches through each, so that features stay on chip."""
