--- The last messages of the server, kept for `:Lacuna log`.
local M = {}

local MESSAGES_MAX = 500
local LOG_TAIL_BYTES = 256 * 1024
local LEVELS = { 'error', 'warning', 'info', 'log', 'debug' }

---@type string[] oldest first
local messages = {}

---@param level string
---@param text string
function M.add(level, text)
  messages[#messages + 1] = ('%s %-7s %s'):format(os.date('%H:%M:%S'), level, text:gsub('%s+$', ''))
  if #messages > MESSAGES_MAX then
    table.remove(messages, 1)
  end
end

--- Takes a `window/logMessage`.
---@param params { type: integer, message: string }?
function M.message(params)
  if type(params) == 'table' and type(params.message) == 'string' then
    M.add(LEVELS[params.type] or 'log', params.message)
  end
end

--- Where Neovim writes what the server prints to stderr.
---@return string path
function M.path()
  local of_lsp = vim.lsp.log or require('vim.lsp.log')
  return of_lsp.get_filename()
end

--- What the server printed to stderr, out of the end of Neovim's language server log.
---@param executable string
---@return string[]
local function stderr_lines(executable)
  local file = io.open(M.path(), 'r')
  if not file then
    return {}
  end
  local bytes = file:seek('end') or 0
  file:seek('set', math.max(0, bytes - LOG_TAIL_BYTES))
  local text = file:read('*a') or ''
  file:close()
  local wanted = ('"%s"\t"stderr"\t'):format(executable)
  local lines = {} ---@type string[]
  for line in vim.gsplit(text, '\n', { plain = true }) do
    local _, stop = line:find(wanted, 1, true)
    if stop then
      -- Neovim writes the text as a quoted Lua string.
      local said = line:sub(stop + 1):gsub('^"', ''):gsub('"$', ''):gsub('\\n', '\n'):gsub('\\"', '"')
      vim.list_extend(lines, vim.split(vim.trim(said), '\n', { plain = true }))
    end
  end
  return lines
end

---@param executable string
---@return string[]
function M.lines(executable)
  local lines = { ('# Messages of the server, the last %d'):format(MESSAGES_MAX), '' }
  vim.list_extend(lines, #messages > 0 and vim.tbl_map(function(message)
    return (message:gsub('\n', ' | '))
  end, messages) or { '(none)' })
  vim.list_extend(lines, { '', '# What it printed to stderr (' .. M.path() .. ')', '' })
  local printed = stderr_lines(executable)
  vim.list_extend(lines, #printed > 0 and printed or { '(nothing)' })
  return lines
end

return M
