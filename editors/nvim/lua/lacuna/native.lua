--- Ghost text by Neovim's own `vim.lsp.inline_completion` (0.12). Asking and drawing are Neovim's; this file adds what
--- it does not do: accepting by word and line, accepting after more was typed, alternatives on request, taking away
--- ghost text that no longer fits what was typed, and leaving the text after the cursor to be seen.
local accept = require('lacuna.accept')
local client = require('lacuna.client')
local config = require('lacuna.config')
local suggestions = require('lacuna.suggestion')

local M = {}

local METHOD = 'textDocument/inlineCompletion'
local INVOKED = 1
local namespace = vim.api.nvim_create_namespace('nvim.lsp.inline_completion')

---@class lacuna.Native
---@field augroup integer
---@field enabled_here boolean inline completion was turned on for the buffer by this plugin
---@field asked table<integer, lacuna.Place> the cursor of each outstanding request
---@field place? lacuna.Place the cursor when the item on the screen was asked for
---@field item? table the item on the screen, to tell a new one from an old one
---@field alternatives? table[] the items got by asking for alternatives

---@type table<integer, lacuna.Native>
local buffers = {}

--- Neovim's state of a buffer. It is private: without it alternatives come only from what Neovim asked for, and ghost
--- text that no longer fits stays until the next answer.
---@param bufnr integer
---@return table?
function M.completor(bufnr)
  local reached, completor = pcall(function()
    return vim.lsp._capability.all.inline_completion.active[bufnr]
  end)
  return reached and type(completor) == 'table' and completor or nil
end

---@param bufnr integer
---@return lacuna.Place
local function place_of_cursor(bufnr)
  local cursor = vim.api.nvim_win_get_cursor(0)
  local row = cursor[1] - 1
  return { row = row, column = cursor[2], line = vim.api.nvim_buf_get_lines(bufnr, row, row + 1, false)[1] or '' }
end

--- An item of Neovim's as a suggestion; nil when it is another server's or does not fit its line.
---@param bufnr integer
---@param item table
---@return lacuna.Suggestion?
local function read_item(bufnr, item)
  local state = buffers[bufnr]
  local ours = client.get()
  if not state or not state.place or not ours or item.client_id ~= ours.id or type(item.insert_text) ~= 'string' then
    return nil
  end
  local range ---@type { row: integer, start_column: integer, end_column: integer }?
  if item.range then
    local row, start_column, _, end_column = item.range:to_extmark()
    range = { row = row, start_column = start_column, end_column = end_column }
  end
  return suggestions.new(item.insert_text, range, state.place)
end

---@param bufnr integer
---@return boolean
local function drawn(bufnr)
  return #vim.api.nvim_buf_get_extmarks(bufnr, namespace, 0, -1, { limit = 1 }) > 0
end

--- Whether what is drawn still continues what was typed. Keys may come faster than the events that redraw.
---@param bufnr integer
---@return boolean fits
---@return lacuna.Suggestion? suggestion nil when it is not known what is drawn
local function fits(bufnr)
  local completor = M.completor(bufnr)
  local item = completor and completor.current
  local suggestion = item and read_item(bufnr, item)
  return not suggestion or suggestions.rest_at_cursor(suggestion, bufnr) ~= nil, suggestion
end

--- Neovim lays an item whose range begins before the cursor over the text after the cursor, though accepting it leaves
--- that text alone. Between the two is where it belongs.
---@param bufnr integer
---@param suggestion lacuna.Suggestion
local function uncover_line_after(bufnr, suggestion)
  if suggestion.replaced_after > 0 or suggestion.line_after == '' then
    return
  end
  for _, mark in ipairs(vim.api.nvim_buf_get_extmarks(bufnr, namespace, 0, -1, { details = true })) do
    local id, row, column, details = mark[1], mark[2], mark[3], mark[4]
    if details.virt_text_pos == 'overlay' then
      vim.api.nvim_buf_set_extmark(bufnr, namespace, row, column, {
        id = id,
        virt_text = details.virt_text,
        virt_text_pos = 'inline',
        virt_lines = details.virt_lines,
        hl_mode = details.hl_mode,
      })
    end
  end
end

---@param bufnr integer
local function hide(bufnr)
  vim.api.nvim_buf_clear_namespace(bufnr, namespace, 0, -1)
end

--- Takes away ghost text that no longer continues what was typed.
---@param bufnr integer
local function refresh(bufnr)
  if not buffers[bufnr] or vim.api.nvim_get_current_buf() ~= bufnr or not drawn(bufnr) then
    return
  end
  if config.current.ghost_text.popup_menu == 'hide' and vim.fn.pumvisible() == 1 then
    hide(bufnr)
    return
  end
  local still_fits, suggestion = fits(bufnr)
  if not still_fits then
    hide(bufnr)
  elseif suggestion then
    uncover_line_after(bufnr, suggestion)
  end
end

--- Remembers where Neovim asked, and with which question the item on the screen came.
---@param event table of LspRequest
local function follow_request(event)
  local data = event.data
  local ours = client.get()
  local state = buffers[event.buf]
  if not state or not ours or data.client_id ~= ours.id or data.request.method ~= METHOD then
    return
  end
  if data.request.type == 'pending' then
    state.asked[data.request_id] = place_of_cursor(event.buf)
  elseif data.request.type == 'complete' then
    local place = state.asked[data.request_id]
    state.asked[data.request_id] = nil
    -- The answer itself is handled right after this event.
    vim.schedule(function()
      local completor = M.completor(event.buf)
      local item = completor and completor.current
      if not completor or (item and item ~= state.item) then
        state.item = item
        state.place = place
      end
      refresh(event.buf)
    end)
  end
end

--- Begins to serve a buffer.
---@param bufnr integer
function M.attach(bufnr)
  if buffers[bufnr] then
    return
  end
  local augroup = vim.api.nvim_create_augroup('lacuna.native.' .. bufnr, { clear = true })
  local before = vim.lsp.inline_completion.is_enabled({ bufnr = bufnr })
  buffers[bufnr] = { augroup = augroup, enabled_here = not before, asked = {} }
  if not before then
    vim.lsp.inline_completion.enable(true, { bufnr = bufnr })
  end
  vim.api.nvim_create_autocmd('LspRequest', { group = augroup, buffer = bufnr, callback = follow_request })
  vim.api.nvim_create_autocmd({ 'CursorMovedI', 'TextChangedI', 'TextChangedP' }, {
    group = augroup,
    buffer = bufnr,
    callback = function()
      -- After Neovim's own callbacks of the same event, and before the screen is drawn.
      refresh(bufnr)
    end,
  })
end

---@param bufnr integer
function M.detach(bufnr)
  local state = buffers[bufnr]
  if not state then
    return
  end
  buffers[bufnr] = nil
  vim.api.nvim_del_augroup_by_id(state.augroup)
  if vim.api.nvim_buf_is_valid(bufnr) and state.enabled_here then
    vim.lsp.inline_completion.enable(false, { bufnr = bufnr })
  end
end

--- Asks at the cursor without waiting for a key.
---@param bufnr integer
function M.ask_again(bufnr)
  local completor = buffers[bufnr] and M.completor(bufnr)
  if completor and vim.api.nvim_get_current_buf() == bufnr and vim.api.nvim_get_mode().mode:sub(1, 1) == 'i' then
    completor:automatic_request()
  end
end

---@param bufnr integer
---@return boolean
function M.visible(bufnr)
  return buffers[bufnr] ~= nil and vim.api.nvim_get_current_buf() == bufnr and drawn(bufnr) and (fits(bufnr))
end

---@param bufnr integer
---@param amount lacuna.Amount
---@return boolean accepted
function M.accept(bufnr, amount)
  if not M.visible(bufnr) then
    return false
  end
  return vim.lsp.inline_completion.get({
    bufnr = bufnr,
    on_accept = function(item)
      local suggestion = read_item(bufnr, item)
      if not suggestion then
        -- Of another server: Neovim knows how to accept it whole.
        return amount == 'all' and item or nil
      end
      local accepted = accept.apply(suggestion, bufnr, amount)
      local completor = M.completor(bufnr)
      if accepted == 'part' and completor then
        -- Neovim has let go of the item; the rest of it is still wanted.
        completor.current = item
        completor:show()
      elseif accepted == 'whole' and item.command then
        client.execute(item.command.command, item.command.arguments or {}, function() end)
      end
      return nil
    end,
  })
end

--- Puts the server's alternatives in the place of what Neovim asked for, and shows the one after the current.
---@param bufnr integer
---@param step integer
local function ask_for_alternatives(bufnr, step)
  local lsp_client = client.ready()
  if not lsp_client then
    return
  end
  local params = vim.lsp.util.make_position_params(0, lsp_client.offset_encoding)
  params.context = { triggerKind = INVOKED }
  local tick = vim.api.nvim_buf_get_changedtick(bufnr)
  local place = place_of_cursor(bufnr)
  client.inline_completion(params, function(err, items)
    local completor = M.completor(bufnr)
    local state = buffers[bufnr]
    if err or #items == 0 or not state or not completor then
      return
    end
    if vim.api.nvim_get_mode().mode:sub(1, 1) ~= 'i' or vim.api.nvim_buf_get_changedtick(bufnr) ~= tick then
      return
    end
    local per_client = completor.client_state[lsp_client.id]
    if not per_client then
      return
    end
    local index = 1
    for number, item in ipairs(items) do
      if completor.current and item.insertText == completor.current.insert_text then
        index = (number - 1 + step) % #items + 1
      end
    end
    per_client.items = items
    state.alternatives = items
    state.place = place
    completor:select(index, true)
    state.item = completor.current
  end, bufnr)
end

---@param bufnr integer
---@param step integer
---@return boolean
function M.cycle(bufnr, step)
  local state = buffers[bufnr]
  if not state or not client.ready() then
    return false
  end
  local completor = M.completor(bufnr)
  local lsp_client = client.ready()
  local per_client = completor and lsp_client and completor.client_state[lsp_client.id]
  if per_client and (per_client.items == nil or per_client.items ~= state.alternatives or not drawn(bufnr)) then
    ask_for_alternatives(bufnr, step)
    return true
  end
  vim.lsp.inline_completion.select({ bufnr = bufnr, count = step })
  state.item = completor and completor.current
  return true
end

---@param bufnr integer
---@return boolean
function M.dismiss(bufnr)
  if not M.visible(bufnr) then
    return false
  end
  -- Accepting into nothing is the public way to let go of an item.
  return vim.lsp.inline_completion.get({
    bufnr = bufnr,
    on_accept = function()
      return nil
    end,
  })
end

return M
