"""What a run is asked to do: `params.yaml`, checked."""
