--- Questions asked of a Neovim in a terminal by `tui`, as `luaeval('dofile(...).NAME()')`; every answer is a string.
local M = {}

function M.ready()
  local client = require('lacuna.client').ready()
  local served = client ~= nil and client.attached_buffers[vim.api.nvim_get_current_buf()] ~= nil
  return served and 'yes' or 'no'
end

--- The ghost text as it should be on the screen: its first line and those below.
function M.ghost()
  for _, name in ipairs({ 'lacuna.ghost_text', 'nvim.lsp.inline_completion' }) do
    local namespace = vim.api.nvim_get_namespaces()[name]
    local marks = namespace and vim.api.nvim_buf_get_extmarks(0, namespace, 0, -1, { details = true }) or {}
    if marks[1] then
      local lines = { marks[1][4].virt_text }
      vim.list_extend(lines, marks[1][4].virt_lines or {})
      return table.concat(
        vim.tbl_map(function(chunks)
          return table.concat(vim.tbl_map(function(chunk)
            return chunk[1]
          end, chunks))
        end, lines),
        '\n'
      )
    end
  end
  return ''
end

function M.messages()
  return vim.api.nvim_exec2('messages', { output = true }).output
end

return M
