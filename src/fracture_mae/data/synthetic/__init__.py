"""The built-in X-rays: limbs that are made up, sent rays through, and recorded."""
