"""The commands for people: `srlm query|report|publish|...`. Each reads the store; none of them is a stage of
dvc.yaml."""
