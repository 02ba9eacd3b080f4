--- Shows an answer of the server, or a log, in a scratch window that `q` closes.
local M = {}

local HEIGHT_MAX = 20

---@param value any
---@return string
local function scalar(value)
  if type(value) == 'number' and value == math.floor(value) then
    return ('%d'):format(value)
  elseif type(value) == 'number' then
    return ('%.2f'):format(value)
  end
  return value == vim.NIL and '-' or tostring(value)
end

---@param value any
---@param indent string
---@param lines string[]
local function append(value, indent, lines)
  if type(value) ~= 'table' then
    for _, line in ipairs(vim.split(scalar(value), '\n', { plain = true })) do
      lines[#lines + 1] = indent .. line
    end
    return
  end
  if vim.islist(value) then
    for _, element in ipairs(value) do
      if type(element) == 'table' then
        local nested = {} ---@type string[]
        append(element, indent .. '  ', nested)
        if nested[1] then
          nested[1] = indent .. '- ' .. vim.trim(nested[1])
        end
        vim.list_extend(lines, nested)
      else
        append('- ' .. scalar(element), indent, lines)
      end
    end
    return
  end
  local keys = vim.tbl_keys(value)
  table.sort(keys, function(a, b)
    -- Plain values first, then the nested ones, each by name: JSON objects come without an order.
    local a_nested, b_nested = type(value[a]) == 'table', type(value[b]) == 'table'
    if a_nested ~= b_nested then
      return b_nested
    end
    return tostring(a) < tostring(b)
  end)
  for _, key in ipairs(keys) do
    local child = value[key]
    local text = type(child) ~= 'table' and scalar(child) or nil
    if text and not text:find('\n', 1, true) then
      lines[#lines + 1] = ('%s%s: %s'):format(indent, key, text)
    elseif type(child) == 'table' and next(child) == nil then
      lines[#lines + 1] = ('%s%s: (none)'):format(indent, key)
    else
      lines[#lines + 1] = ('%s%s:'):format(indent, key)
      append(child, indent .. '  ', lines)
    end
  end
end

--- A JSON value as indented lines.
---@param value any
---@return string[]
function M.lines(value)
  local lines = {} ---@type string[]
  append(value, '', lines)
  return #lines > 0 and lines or { '(nothing)' }
end

--- Opens the window, or takes the one that is open already.
---@param title string
---@param lines string[]
function M.show(title, lines)
  local name = 'lacuna://' .. title
  local bufnr = vim.fn.bufnr('^' .. vim.fn.escape(name, '/') .. '$')
  if bufnr < 0 then
    bufnr = vim.api.nvim_create_buf(false, true)
    vim.api.nvim_buf_set_name(bufnr, name)
    vim.bo[bufnr].bufhidden = 'wipe'
    vim.keymap.set('n', 'q', '<Cmd>close<CR>', { buffer = bufnr, desc = 'Close' })
  end
  vim.bo[bufnr].modifiable = true
  vim.api.nvim_buf_set_lines(bufnr, 0, -1, false, lines)
  vim.bo[bufnr].modifiable = false
  local window = vim.fn.bufwinid(bufnr)
  if window < 0 then
    window = vim.api.nvim_open_win(bufnr, true, {
      split = 'below',
      win = -1,
      height = math.min(HEIGHT_MAX, #lines, math.max(1, math.floor(vim.o.lines / 2))),
    })
    vim.wo[window].wrap = false
    vim.wo[window].number = false
    vim.wo[window].relativenumber = false
  end
  vim.api.nvim_set_current_win(window)
end

return M
