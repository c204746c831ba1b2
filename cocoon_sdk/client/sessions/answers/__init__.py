"""One answer for one request, whichever workers it takes: choice, retries, going on elsewhere."""
