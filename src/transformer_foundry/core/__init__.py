"""The plain library: functions, generators and small dataclasses that know neither Kedro nor a tracker."""
