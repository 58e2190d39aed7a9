"""What a data set looks like: profile, baselines, drift, advice, figures."""
