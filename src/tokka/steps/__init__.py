"""The steps of the DAG as ordinary functions: a component, a DVC stage and a test call the same one."""
