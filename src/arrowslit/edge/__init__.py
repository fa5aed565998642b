"""What every HTTP part needs: the door, the guard, who is calling, and how an error is said."""
