"""Takes trainings; runs them on Ray and leaves one record each in the store."""
