"""The monitor: windows over the captures of live traffic, checks against baselines, alerts and webhooks."""
