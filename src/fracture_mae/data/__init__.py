"""From files to split X-rays: reading, finding copies, splitting."""
