"""What people see: tables, progress, help texts, and completion."""
