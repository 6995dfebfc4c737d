"""What every command needs: environment, params, paths, whole files, errors, Keras' start, progress, threads."""
