"""Sites, asset types, assets, devices, and which device measures which asset."""
