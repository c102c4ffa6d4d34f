"""What a study of trials shows: claims, their rules, and findings."""
