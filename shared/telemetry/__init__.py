"""What a service reports about itself: logs, metrics, health."""
