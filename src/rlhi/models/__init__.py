"""Chat back ends behind one protocol, and the layers around a call."""
