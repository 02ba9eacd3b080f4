--- Tells the server where the cursor has come to rest, so that it can read the text there before a key is pressed.
local client = require('lacuna.client')

local M = {}

--- A cursor that has not moved for so long rests.
local REST_MS = 150

---@type table<integer, integer> the autocommand group of each served buffer
local groups = {}
---@type uv.uv_timer_t?
local timer

---@param bufnr integer
local function rests(bufnr)
  local lsp_client = client.ready()
  if not lsp_client or not groups[bufnr] or vim.api.nvim_get_current_buf() ~= bufnr then
    return
  end
  local at = vim.lsp.util.make_position_params(0, lsp_client.offset_encoding)
  client.notify('lacuna/cursorMoved', at)
end

---@param bufnr integer
local function moved(bufnr)
  timer = timer or assert(vim.uv.new_timer())
  timer:start(
    REST_MS,
    0,
    vim.schedule_wrap(function()
      rests(bufnr)
    end)
  )
end

--- Begins to serve a buffer.
---@param bufnr integer
function M.attach(bufnr)
  if groups[bufnr] then
    return
  end
  groups[bufnr] = vim.api.nvim_create_augroup('lacuna.cursor.' .. bufnr, { clear = true })
  vim.api.nvim_create_autocmd({ 'BufEnter', 'CursorMoved', 'CursorMovedI' }, {
    group = groups[bufnr],
    buffer = bufnr,
    callback = function()
      moved(bufnr)
    end,
  })
  if vim.api.nvim_get_current_buf() == bufnr then
    moved(bufnr)
  end
end

---@param bufnr integer
function M.detach(bufnr)
  local group = groups[bufnr]
  if group then
    groups[bufnr] = nil
    vim.api.nvim_del_augroup_by_id(group)
  end
end

return M
