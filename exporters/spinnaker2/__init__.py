"""NIR files that py-spinnaker2's importer takes as they are."""
