--- Puts a suggestion, or its next word or line, into the buffer: one edit at the cursor, one undo step of its own.
local suggestions = require('lacuna.suggestion')

local M = {}

--- Inserts at the cursor of the current window. Nothing happens when the buffer no longer fits the suggestion.
---@param suggestion lacuna.Suggestion
---@param bufnr integer
---@param amount lacuna.Amount
---@return 'whole'|'part'|nil accepted
function M.apply(suggestion, bufnr, amount)
  if vim.api.nvim_get_current_buf() ~= bufnr or not vim.bo[bufnr].modifiable then
    return nil
  end
  local rest, row, column = suggestions.rest_at_cursor(suggestion, bufnr)
  if not rest then
    return nil
  end
  local chunk = suggestions.chunk(rest, amount)
  local whole = #chunk == #rest
  local lines = vim.split(chunk, '\n', { plain = true })

  -- Setting 'undolevels', even to its own value, closes the undo step: undo takes back the suggestion alone.
  vim.cmd('let &l:undolevels = &l:undolevels')
  local end_column = whole and column + suggestion.replaced_after or column
  vim.api.nvim_buf_set_text(bufnr, row, column, row, end_column, lines)
  local last = lines[#lines]
  vim.api.nvim_win_set_cursor(0, { row + #lines, (#lines == 1 and column or 0) + #last })
  return whole and 'whole' or 'part'
end

return M
