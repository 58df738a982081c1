"""May it be registered, and does a specialist pay: rules over plain data, nothing that touches the world."""
