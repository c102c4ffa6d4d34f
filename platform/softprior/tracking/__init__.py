"""Tracking: what the driver tells MLflow. The only place that imports it."""
