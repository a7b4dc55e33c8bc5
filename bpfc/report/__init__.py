"""What people read: tables made of the summaries that runs leave. Nothing here attacks or trains."""
