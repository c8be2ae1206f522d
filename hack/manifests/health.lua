-- SPDX-License-Identifier: Apache-2.0
-- Computes the health of a resource from its conditions, as kstatus does.
local function condition(name)
  for _, c in ipairs(obj.status ~= nil and obj.status.conditions or {}) do
    if c.type == name then
      return c
    end
  end
  return {}
end

local ready = condition("Ready")
local message = ready.message or "Waiting for the operator."
if obj.metadata.deletionTimestamp ~= nil then
  return {status = "Progressing", message = ready.reason == "Deleting" and message or "The resource is being deleted."}
end
if obj.status == nil or obj.status.observedGeneration ~= obj.metadata.generation then
  return {status = "Progressing", message = "Waiting for the operator."}
end
if condition("Stalled").status == "True" then
  return {status = "Degraded", message = message}
end
if ready.status ~= "True" then
  return {status = "Progressing", message = message}
end
if obj.spec ~= nil and obj.spec.suspend == true or ready.reason == "Paused" then
  return {status = "Suspended", message = message}
end
return {status = "Healthy", message = message}
