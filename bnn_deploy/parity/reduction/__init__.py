"""From a comparison that failed to the smallest part of the file, and the smallest input, that still fails."""
