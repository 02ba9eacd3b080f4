--- Ghost text of the plugin's own, for Neovim without `vim.lsp.inline_completion`: asks the server as the user types,
--- shows the answer as extmarks, and follows along while the user types into it.
local accept = require('lacuna.accept')
local client = require('lacuna.client')
local config = require('lacuna.config')
local position = require('lacuna.position')
local suggestions = require('lacuna.suggestion')

local M = {}

local INVOKED, AUTOMATIC = 1, 2
local namespace = vim.api.nvim_create_namespace('lacuna.ghost_text')

---@class lacuna.Ghost
---@field bufnr integer
---@field augroup integer
---@field timer uv.uv_timer_t
---@field request_id? integer the one outstanding request
---@field generation integer counts requests; an answer to an earlier one is dropped
---@field suggestions lacuna.Suggestion[]
---@field index integer which of them is shown
---@field chosen boolean the user asked for alternatives: keep the one shown until it no longer fits
---@field hint boolean show which of how many it is
---@field visible boolean
---@field seen string where the last event found the cursor and the text

---@type table<integer, lacuna.Ghost>
local ghosts = {}

---@param bufnr integer
---@return lacuna.Place
local function place_of_cursor(bufnr)
  local cursor = vim.api.nvim_win_get_cursor(0)
  local row = cursor[1] - 1
  return { row = row, column = cursor[2], line = vim.api.nvim_buf_get_lines(bufnr, row, row + 1, false)[1] or '' }
end

---@param bufnr integer
---@return boolean
local function inserting(bufnr)
  -- 'i', 'ic' and 'ix'; not replace mode, where typed text does not push the rest away.
  return vim.api.nvim_get_current_buf() == bufnr and vim.api.nvim_get_mode().mode:sub(1, 1) == 'i'
end

---@param bufnr integer
---@return string
local function moment(bufnr)
  local cursor = vim.api.nvim_win_get_cursor(0)
  return ('%d:%d:%d'):format(vim.api.nvim_buf_get_changedtick(bufnr), cursor[1], cursor[2])
end

---@param ghost lacuna.Ghost
local function cancel(ghost)
  ghost.timer:stop()
  ghost.generation = ghost.generation + 1
  if ghost.request_id then
    client.cancel(ghost.request_id)
    ghost.request_id = nil
  end
end

---@param ghost lacuna.Ghost
local function hide(ghost)
  if ghost.visible then
    ghost.visible = false
    vim.api.nvim_buf_clear_namespace(ghost.bufnr, namespace, 0, -1)
  end
end

---@param ghost lacuna.Ghost
local function clear(ghost)
  hide(ghost)
  ghost.suggestions = {}
  ghost.chosen = false
  ghost.hint = false
end

--- Virtual text does not expand tabs, so they are made blanks here.
---@param text string
---@param column integer the screen column where it starts, from 0
---@return string
local function expand_tabs(text, column)
  if not text:find('\t', 1, true) then
    return text
  end
  local width = vim.bo.tabstop
  local out = {} ---@type string[]
  local rest = text
  while true do
    local before, after = rest:match('^([^\t]*)\t(.*)$')
    if not before then
      out[#out + 1] = rest
      return table.concat(out)
    end
    column = column + vim.fn.strdisplaywidth(before, column)
    local blanks = width - column % width
    out[#out + 1] = before .. (' '):rep(blanks)
    column = column + blanks
    rest = after
  end
end

--- Draws `rest` at the cursor.
---@param ghost lacuna.Ghost
---@param suggestion lacuna.Suggestion
---@param rest string
---@param row integer
---@param column integer
local function draw(ghost, suggestion, rest, row, column)
  local line = vim.api.nvim_buf_get_lines(ghost.bufnr, row, row + 1, false)[1] or ''
  local screen_column = vim.fn.strdisplaywidth(line:sub(1, column))
  local replaced = line:sub(column + 1, column + suggestion.replaced_after)
  local kept = line:sub(column + suggestion.replaced_after + 1)

  local lines = vim.split(rest, '\n', { plain = true })
  if #lines == 1 and replaced ~= '' and vim.endswith(rest, replaced) then
    -- What would be replaced comes back as the end of the new text: it stays where it is.
    lines[1] = rest:sub(1, #rest - #replaced)
    replaced = ''
  end
  -- Text after the cursor that moves behind the last line of the suggestion, or goes away, is covered on its line.
  local covers = replaced ~= '' and (kept == '' or #lines > 1) or (#lines > 1 and kept ~= '')

  local first = expand_tabs(lines[1], screen_column)
  if covers then
    local hidden = vim.fn.strdisplaywidth(line:sub(column + 1), screen_column)
    first = first .. (' '):rep(hidden - vim.fn.strdisplaywidth(first, screen_column))
  end
  local chunks = { { first, 'LacunaGhostText' } }
  local virtual_lines = {} ---@type [string, string][][]
  for index = 2, #lines do
    virtual_lines[#virtual_lines + 1] = { { expand_tabs(lines[index], 0), 'LacunaGhostText' } }
  end
  local last = virtual_lines[#virtual_lines] or chunks
  if #lines > 1 and kept ~= '' then
    last[#last + 1] = { expand_tabs(kept, vim.fn.strdisplaywidth(last[1][1])), 'Normal' }
  end
  if ghost.hint then
    last[#last + 1] = { (' (%d/%d)'):format(ghost.index, #ghost.suggestions), 'LacunaGhostCount' }
  end

  hide(ghost)
  vim.api.nvim_buf_set_extmark(ghost.bufnr, namespace, row, column, {
    virt_text = chunks,
    virt_text_pos = covers and 'overlay' or 'inline',
    virt_lines = #virtual_lines > 0 and virtual_lines or nil,
    hl_mode = 'combine',
  })
  ghost.visible = true
end

--- Shows the suggestion at hand as far as it still fits; forgets it when it does not.
---@param ghost lacuna.Ghost
---@return boolean shown
local function refresh(ghost)
  local suggestion = ghost.suggestions[ghost.index]
  if not suggestion then
    hide(ghost)
    return false
  end
  local rest, row, column = suggestions.rest_at_cursor(suggestion, ghost.bufnr)
  if not rest then
    clear(ghost)
    return false
  end
  if config.current.ghost_text.popup_menu == 'hide' and vim.fn.pumvisible() == 1 then
    hide(ghost)
    return false
  end
  draw(ghost, suggestion, rest, row, column)
  return true
end

---@param items table[] of the protocol
---@param place lacuna.Place
---@param encoding string
---@return lacuna.Suggestion[]
local function read_items(items, place, encoding)
  local read = {} ---@type lacuna.Suggestion[]
  for _, item in ipairs(items) do
    local range ---@type { row: integer, start_column: integer, end_column: integer }?
    if item.range then
      range = {
        row = item.range.start.line,
        start_column = position.to_byte(place.line, item.range.start.character, encoding),
        end_column = position.to_byte(place.line, item.range['end'].character, encoding),
      }
    end
    -- A snippet (an object instead of a string) is not plain text and is left out.
    if type(item.insertText) == 'string' then
      local suggestion = suggestions.new(item.insertText, range, place)
      if suggestion then
        suggestion.command = item.command
        read[#read + 1] = suggestion
      end
    end
  end
  return read
end

--- Asks the server at the cursor. The answer is used only if nothing has changed when it comes.
---@param ghost lacuna.Ghost
---@param kind integer
---@param answered fun(read: lacuna.Suggestion[])
local function request(ghost, kind, answered)
  local bufnr = ghost.bufnr
  cancel(ghost)
  local lsp_client = client.ready()
  if not lsp_client or not client.offers_inline_completion(lsp_client, bufnr) or not inserting(bufnr) then
    return
  end
  local params = vim.lsp.util.make_position_params(0, lsp_client.offset_encoding)
  params.context = { triggerKind = kind }
  local place = place_of_cursor(bufnr)
  local asked_at = moment(bufnr)
  local generation = ghost.generation
  ghost.request_id = client.inline_completion(params, function(err, items)
    if generation ~= ghost.generation or ghosts[bufnr] ~= ghost then
      return
    end
    ghost.request_id = nil
    -- An error leaves what is shown alone: the server cancels superseded requests by itself.
    if err or not inserting(bufnr) or moment(bufnr) ~= asked_at then
      return
    end
    answered(read_items(items, place, lsp_client.offset_encoding))
  end, bufnr)
end

---@param ghost lacuna.Ghost
local function request_automatically(ghost)
  request(ghost, AUTOMATIC, function(read)
    -- No news is no reason to take away what the user is typing into.
    if #read == 0 and refresh(ghost) then
      return
    end
    clear(ghost)
    ghost.suggestions = read
    ghost.index = 1
    refresh(ghost)
  end)
end

--- What a key press leads to.
---@param ghost lacuna.Ghost
local function changed(ghost)
  if not inserting(ghost.bufnr) then
    return
  end
  -- One key press is seen as TextChangedI and again as CursorMovedI.
  local now = moment(ghost.bufnr)
  if ghost.seen == now then
    return
  end
  ghost.seen = now
  cancel(ghost)
  local shown = refresh(ghost)
  if shown and ghost.chosen then
    return
  end
  if config.current.ghost_text.popup_menu == 'hide' and vim.fn.pumvisible() == 1 then
    return
  end
  ghost.timer:start(
    config.current.ghost_text.debounce_ms,
    0,
    vim.schedule_wrap(function()
      if ghosts[ghost.bufnr] == ghost then
        request_automatically(ghost)
      end
    end)
  )
end

--- Begins to serve a buffer.
---@param bufnr integer
function M.attach(bufnr)
  if ghosts[bufnr] then
    return
  end
  local ghost = {
    bufnr = bufnr,
    augroup = vim.api.nvim_create_augroup('lacuna.ghost_text.' .. bufnr, { clear = true }),
    timer = assert(vim.uv.new_timer()),
    generation = 0,
    suggestions = {},
    index = 1,
    chosen = false,
    hint = false,
    visible = false,
    seen = '',
  }
  ghosts[bufnr] = ghost
  local function on(events, callback)
    vim.api.nvim_create_autocmd(events, { group = ghost.augroup, buffer = bufnr, callback = callback })
  end
  on({ 'InsertEnter', 'TextChangedI', 'TextChangedP', 'CursorMovedI', 'CompleteDone' }, function(event)
    if event.event == 'InsertEnter' or event.event == 'CompleteDone' then
      ghost.seen = ''
    end
    -- When InsertEnter and CompleteDone run, the mode and the menu are still the old ones.
    vim.schedule(function()
      if ghosts[bufnr] == ghost then
        changed(ghost)
      end
    end)
  end)
  on({ 'InsertLeave', 'BufLeave' }, function()
    cancel(ghost)
    clear(ghost)
    ghost.seen = ''
  end)
  if inserting(bufnr) then
    changed(ghost)
  end
end

---@param bufnr integer
function M.detach(bufnr)
  local ghost = ghosts[bufnr]
  if not ghost then
    return
  end
  cancel(ghost)
  ghosts[bufnr] = nil
  ghost.timer:close()
  vim.api.nvim_del_augroup_by_id(ghost.augroup)
  if vim.api.nvim_buf_is_valid(bufnr) then
    vim.api.nvim_buf_clear_namespace(bufnr, namespace, 0, -1)
  end
end

--- Asks at the cursor without waiting for a key.
---@param bufnr integer
function M.ask_again(bufnr)
  local ghost = ghosts[bufnr]
  if ghost and not ghost.visible then
    ghost.seen = ''
    changed(ghost)
  end
end

---@param bufnr integer
---@return boolean
function M.visible(bufnr)
  local ghost = ghosts[bufnr]
  return ghost ~= nil and ghost.visible
end

---@param bufnr integer
---@param amount lacuna.Amount
---@return boolean accepted
function M.accept(bufnr, amount)
  local ghost = ghosts[bufnr]
  local suggestion = ghost and ghost.visible and ghost.suggestions[ghost.index]
  if not ghost or not suggestion then
    return false
  end
  local accepted = accept.apply(suggestion, bufnr, amount)
  if accepted == 'part' then
    refresh(ghost)
  else
    cancel(ghost)
    clear(ghost)
  end
  if accepted == 'whole' and suggestion.command then
    client.execute(suggestion.command.command, suggestion.command.arguments or {}, function() end)
  end
  return accepted ~= nil
end

--- Shows the next alternative, or asks for alternatives if there was no such request at this place.
---@param bufnr integer
---@param step integer
---@return boolean
function M.cycle(bufnr, step)
  local ghost = ghosts[bufnr]
  if not ghost or not client.ready() then
    return false
  end
  if ghost.visible and ghost.chosen then
    ghost.index = (ghost.index - 1 + step) % #ghost.suggestions + 1
    return refresh(ghost)
  end
  local shown = ghost.visible and ghost.suggestions[ghost.index] or nil
  request(ghost, INVOKED, function(read)
    if #read == 0 then
      return
    end
    clear(ghost)
    ghost.suggestions = read
    ghost.chosen = true
    ghost.hint = true
    -- Step on from the one on the screen; with none on the screen begin with the first.
    ghost.index = 1
    for index, suggestion in ipairs(read) do
      if shown and suggestion.text == shown.text and suggestion.start_column == shown.start_column then
        ghost.index = (index - 1 + step) % #read + 1
      end
    end
    refresh(ghost)
  end)
  return true
end

---@param bufnr integer
---@return boolean
function M.dismiss(bufnr)
  local ghost = ghosts[bufnr]
  if not ghost or not ghost.visible then
    return false
  end
  cancel(ghost)
  clear(ghost)
  return true
end

return M
