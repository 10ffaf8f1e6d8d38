"""The MQTT edge: device bytes in; stored readings and evaluated rules out."""
