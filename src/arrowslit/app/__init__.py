"""The only place that sees all parts: configuration, plain constructor calls, listening and stopping."""
