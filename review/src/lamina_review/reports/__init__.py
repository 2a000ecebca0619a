"""The forms in which a review is told: Markdown for people, JSON and SARIF for programs."""
