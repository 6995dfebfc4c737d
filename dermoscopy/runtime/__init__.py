"""What every command needs: params, paths, whole files, errors, Keras' start, progress."""
