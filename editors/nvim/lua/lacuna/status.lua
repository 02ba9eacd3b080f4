--- What the server last said about itself, for the status line.
local M = {}

---@class lacuna.Status as the server sends it in `lacuna/status`; it may hold more
---@field state? string
---@field model? string
---@field device? string
---@field lastLatencyMs? number

---@type lacuna.Status?
M.last = nil
--- The command that was not found, if that is why there is no server.
---@type string?
M.missing = nil
--- Why the server is not started again.
---@type string?
M.failure = nil

---@type table<string|integer, { title: string, percentage: integer? }>
local progress = {}

local function redraw()
  vim.schedule(function()
    vim.cmd('redrawstatus')
  end)
end

---@param status any
---@return boolean became_ready whether a model has just been loaded: earlier requests were answered with nothing
function M.update(status)
  if type(status) ~= 'table' then
    return false
  end
  local before = M.last and M.last.state
  M.last = status
  redraw()
  return before ~= nil and (before == 'loading' or before == 'error') and status.state == 'ready'
end

--- Takes the value of a `$/progress`.
---@param token string|integer
---@param value any
function M.progress(token, value)
  if type(value) ~= 'table' then
    return
  end
  if value.kind == 'end' then
    progress[token] = nil
  else
    local before = progress[token]
    progress[token] = {
      title = value.title or (before and before.title) or 'working',
      percentage = value.percentage or (before and before.percentage),
    }
  end
  redraw()
end

---@param reason string
function M.fail(reason)
  M.failure = reason
  redraw()
end

--- Forgets a server that is gone.
function M.reset()
  M.last = nil
  M.failure = nil
  progress = {}
  redraw()
end

--- A few words about the server, for example `lacuna: ready 38 ms`.
---@param running boolean whether there is a client
---@param enabled boolean
---@return string
function M.line(running, enabled)
  if not enabled then
    return 'lacuna: off'
  elseif M.missing then
    return 'lacuna: not found'
  elseif M.failure then
    return 'lacuna: failed'
  elseif not running then
    return ''
  end
  local _, working = next(progress)
  if working then
    return working.percentage and ('lacuna: %s %d%%'):format(working.title, working.percentage)
      or ('lacuna: %s'):format(working.title)
  end
  local last = M.last
  if not last then
    return 'lacuna'
  end
  local text = 'lacuna: ' .. (type(last.state) == 'string' and last.state or 'ready')
  if type(last.lastLatencyMs) == 'number' then
    text = ('%s %d ms'):format(text, math.floor(last.lastLatencyMs + 0.5))
  end
  return text
end

return M
