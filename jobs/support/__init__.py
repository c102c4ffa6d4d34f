"""What the commands share: options, exit statuses, stopping, and what they print. No commands themselves."""
