"""The checks of `heartbeat doctor`: each looks at given facts and says what is wrong and how to mend it."""
